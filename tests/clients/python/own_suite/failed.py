"""Prints the names of failed tests that RACY lists, joined by " or ": failed.py JUNIT RACY."""

import sys
import xml.etree.ElementTree as xml

junit, racy = sys.argv[1:]
with open(racy, encoding="utf-8") as rows:
    known = {row.split()[0] for row in rows if row.strip() and not row.startswith("#")}
failed = {
    case.get("name").split("[")[0]
    for case in xml.parse(junit).iter("testcase")
    if case.find("failure") is not None or case.find("error") is not None
}
print(" or ".join(sorted(failed & known)))
