"""Runs scim2-tester, a checker of RFC 7643 and 7644, against a server: `scim_check.py BASE_URL TOKEN_FILE`.

Prints a line for each check that does not conform and ends with 1 if there is one, or if hardly anything was checked.
"""

import sys

from httpx2 import Client
from scim2_client.engines.httpx2 import SyncSCIMClient
from scim2_tester import Status, check_server

GOOD = {Status.SUCCESS, Status.COMPLIANT, Status.ACCEPTABLE}


def main() -> int:
    base_url, token_file = sys.argv[1:]
    with open(token_file, encoding="ascii") as file:
        token = file.read()
    headers = {"Authorization": f"Bearer {token}"}
    with Client(base_url=base_url, headers=headers, trust_env=False, timeout=30) as client:
        results = check_server(SyncSCIMClient(client))
    counts: dict[str, int] = {}
    for result in results:
        counts[result.status.name] = counts.get(result.status.name, 0) + 1
        if result.status not in GOOD:
            print(f"{result.status.name} {result.resource_type or ''} {result.title}: {result.reason}")
    print(counts)
    bad = [result for result in results if result.status in {Status.ERROR, Status.CRITICAL}]
    return 1 if bad or counts.get("SUCCESS", 0) < 20 else 0


sys.exit(main())
