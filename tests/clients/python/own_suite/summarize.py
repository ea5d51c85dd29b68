"""Turns pytest's JUnit files into the suite's lines and summary:
summarize.py LIST SUMMARY JUNIT [AGAIN]...

LIST names the tests left out, with reasons; SUMMARY is the file to write; AGAIN are the results of
tests that failed before and were run again. Exits 0 when every test that ran passed, in the end,
and at least one did.
"""

import sys
import xml.etree.ElementTree as xml

listed, summary, junit, *again = sys.argv[1:]
lines, counts = [], {"passed": 0, "failed": 0, "skipped": 0}
try:
    cases = list(xml.parse(junit).iter("testcase"))
except (OSError, xml.ParseError) as error:
    print(f"FAIL own suite: no results: {error}")
    sys.exit(1)
retried = {}
for path in again:
    for case in xml.parse(path).iter("testcase"):
        retried[case.get("name")] = case
for case in cases:
    name = case.get("name")
    failed_before = name in retried
    case = retried.get(name, case)
    problem = case.find("failure") if case.find("failure") is not None else case.find("error")
    if problem is not None:
        counts["failed"] += 1
        why = " ".join(problem.get("message", "").split())[:300]
        lines.append(f"FAIL own suite: {name}: {why}")
    elif case.find("skipped") is not None:
        counts["skipped"] += 1
        lines.append(f"skipped own suite: {name}: {case.find('skipped').get('message')}")
    else:
        counts["passed"] += 1
        lines.append(f"ok own suite: {name} ({float(case.get('time', 0)):.1f} s)"
                     + (", run again after a failure (see racy.txt)" if failed_before else ""))
left_out = 0
ran = {case.get("name").split("[")[0] for case in cases}
with open(listed, encoding="utf-8") as rows:
    for row in rows:
        if row.strip() and not row.startswith("#") and row.split()[0] not in ran:
            left_out += 1
            lines.append(f"left out own suite: {row.split()[0]}: {row.split(None, 1)[1].strip()}")
lines.append("own suite: " + ", ".join(f"{n} {what}" for what, n in counts.items())
             + f", {left_out} left out")
print("\n".join(lines))
with open(summary, "w", encoding="utf-8") as file:
    file.write("\n".join(lines) + "\n")
sys.exit(1 if counts["failed"] or not counts["passed"] else 0)
