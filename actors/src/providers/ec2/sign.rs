//! AWS's signature, version 4, for a form that is posted.
//!
//! **Promises:** the same bytes as AWS's own signers make; held against its published example and, where it is there,
//! against botocore.
//! **Gives up:** everything that is not such a form: queries in the path, chunks, presigned addresses.

use sha2::{Digest, Sha256};

/// Who asks.
#[derive(Clone)]
pub struct Credentials {
    pub key: String,
    pub secret: String,
    pub token: Option<String>,
}

/// What is signed.
pub struct Request<'a> {
    pub host: &'a str,
    pub region: &'a str,
    pub service: &'a str,
    pub body: &'a str,
    /// Unix seconds.
    pub now: u64,
}

pub const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The headers to send, `host` and `content-type` apart.
pub fn headers(request: &Request, who: &Credentials) -> Vec<(&'static str, String)> {
    let moment = moment(request.now);
    let day = &moment[..8];
    let mut named = vec![
        ("content-type", FORM.to_owned()),
        ("host", request.host.to_owned()),
        ("x-amz-date", moment.clone()),
    ];
    if let Some(token) = &who.token {
        named.push(("x-amz-security-token", token.clone()));
    }
    let lines: String = named.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names = named.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", hex(&Sha256::digest(request.body)));
    let scope = format!("{day}/{}/{}/aws4_request", request.region, request.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{moment}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let signature =
        hex(&hmac(&signing_key(&who.secret, day, request.region, request.service), to_sign.as_bytes()));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        who.key
    );
    named.retain(|(name, _)| name.starts_with("x-amz-"));
    named.push(("authorization", authorization));
    named
}

fn signing_key(secret: &str, day: &str, region: &str, service: &str) -> [u8; 32] {
    let first = hmac(format!("AWS4{secret}").as_bytes(), day.as_bytes());
    [region, service, "aws4_request"].iter().fold(first, |key, part| hmac(&key, part.as_bytes()))
}

/// RFC 2104 with SHA-256.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `20150830T123600Z`.
fn moment(unix: u64) -> String {
    // Howard Hinnant's civil_from_days.
    let shifted = unix / 86_400 + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let of_year_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_year_era + of_year_era / 4 - of_year_era / 100);
    let month_shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    let year = of_year_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (unix / 3600 % 24, unix / 60 % 60, unix % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// A form's words: everything but letters, digits and `-_.~` is escaped.
pub fn form(parameters: &[(String, String)]) -> String {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    let pairs = parameters.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_that_of_the_standard() {
        // RFC 4231, cases 2 and 6.
        let code = hmac(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(&code), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let code = hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(&code), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn a_signature_is_that_of_botocore() {
        let who = Credentials {
            key: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            token: Some("a/token=".into()),
        };
        let request = Request {
            host: "ec2.eu-north-1.amazonaws.com",
            region: "eu-north-1",
            service: "ec2",
            body: "Action=DescribeInstances&Version=2016-11-15",
            now: 1_440_938_160,
        };
        let headers = headers(&request, &who);
        assert_eq!(headers[0], ("x-amz-date", "20150830T123600Z".to_owned()));
        let authorization = &headers.last().unwrap().1;
        // Made by botocore.auth.SigV4Auth of botocore 1.44.8 from the same request.
        assert!(
            authorization
                .ends_with("Signature=8aa1383b49d93dbf6114bceb4d2e3bec6b89a3070a5be3fc05ae7e253d0493a6"),
            "{authorization}"
        );
    }

    #[test]
    fn a_form_is_escaped_as_aws_wants_it() {
        let pairs = [
            ("Tag.1.Key".to_owned(), "windfall:vm".to_owned()),
            ("UserData".to_owned(), "a+b/c= ~".to_owned()),
        ];
        assert_eq!(form(&pairs), "Tag.1.Key=windfall%3Avm&UserData=a%2Bb%2Fc%3D%20~");
    }
}
