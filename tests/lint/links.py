"""Relative links in the Markdown files lead to files, and to headings that exist."""

import re

import tree

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def anchors(text):
    """Of each heading, as renderers make them."""
    found = set()
    for heading in re.findall(r"^#+\s+(.*?)\s*$", re.sub(r"```.*?```", "", text, flags=re.S), re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(plain.replace(" ", "-"))
    return found


def main():
    documents = sorted(tree.ROOT.glob("*.md")) + tree.files(
        ".md", under=["docs", "python-bindings", "examples", "src", "tests"])
    findings = []
    for path in documents:
        text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
        for target in LINK.findall(text):
            if re.match(r"[a-z]+:", target):
                continue
            file, _, anchor = target.partition("#")
            goal = (path.parent / file) if file else path
            if not goal.exists():
                findings.append(f"{tree.name(path)}: the link to {target} leads nowhere")
            elif anchor and goal.suffix == ".md" and anchor not in anchors(goal.read_text()):
                findings.append(f"{tree.name(path)}: {target} names a heading that is not there")
    tree.report(findings, len(documents))


if __name__ == "__main__":
    main()
