//! As much of XML as EC2 answers with: elements and text.
//!
//! **Promises:** any text is read or refused, without recursion; what is deeper than [`DEPTH_MAX`] is refused.
//! **Gives up:** attributes, which are skipped, and document types.

const DEPTH_MAX: usize = 64;

/// One element.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Element {
    pub name: String,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// The first child of this name.
    pub fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The text of a child, or nothing.
    pub fn text_of(&self, name: &str) -> &str {
        self.child(name).map_or("", |child| &child.text)
    }

    /// The `item`s of a set.
    pub fn items(&self, name: &str) -> impl Iterator<Item = &Element> {
        let set = self.child(name).into_iter();
        set.flat_map(|set| set.children.iter().filter(|item| item.name == "item"))
    }
}

/// The root element, if this is a document.
pub fn parse(text: &str) -> Option<Element> {
    let mut open: Vec<Element> = vec![Element::default()];
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let last = open.last_mut()?;
        last.text.push_str(&plain(rest[..at].trim()));
        rest = &rest[at + 1..];
        if rest.starts_with('?') || rest.starts_with('!') {
            rest = &rest[rest.find('>')? + 1..];
            continue;
        }
        let end = rest.find('>')?;
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let done = open.pop()?;
            if done.name != name.trim() || open.is_empty() {
                return None;
            }
            open.last_mut()?.children.push(done);
            continue;
        }
        let is_empty = tag.ends_with('/');
        let name = tag.trim_end_matches('/').split_whitespace().next()?.to_owned();
        let element = Element { name, ..Element::default() };
        if is_empty {
            open.last_mut()?.children.push(element);
        } else if open.len() > DEPTH_MAX {
            return None;
        } else {
            open.push(element);
        }
    }
    let mut root = open.pop()?;
    (open.is_empty() && root.children.len() == 1).then(|| root.children.remove(0))
}

fn plain(text: &str) -> String {
    let replaced = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    replaced.iter().fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read() {
        let root = parse(
            "<?xml version=\"1.0\"?>\n<R xmlns=\"http://x/\"><set><item><id>i-1</id><e/></item><item><id>a &amp; b</id></item></set></R>",
        )
        .unwrap();
        let ids: Vec<&str> = root.items("set").map(|item| item.text_of("id")).collect();
        assert_eq!((root.name.as_str(), ids), ("R", vec!["i-1", "a & b"]));
        assert_eq!(root.text_of("nothing"), "");
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in
            ["", "x", "<a>", "<a></b>", "</a>", "<a/><b/>", "<a", &"<a>".repeat(1_000), "<>", "< ></ >"]
        {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
