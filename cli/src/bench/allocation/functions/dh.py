# Dynamic HTML: a table of `rows` lines out of a template, sorted and escaped.
import html
import string

LINE = string.Template("<tr><td>$number</td><td>$name</td><td class='$kind'>$text</td></tr>")


def main(args):
    rows = args["rows"]
    people = [{"number": (n * 7919) % rows, "name": "N%d & sons" % n, "kind": "k%d" % (n % 7)} for n in range(rows)]
    people.sort(key=lambda row: (row["kind"], row["number"]))
    lines = []
    for row in people:
        row = {key: html.escape(str(value), quote=True) for key, value in row.items()}
        lines.append(LINE.substitute(row, text=row["name"][::-1].title()))
    page = "<table>" + "".join(lines) + "</table>"
    return {"bytes": len(page)}
