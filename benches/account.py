"""One AWS account, the same services and region, read and judged by Prowler and by Cairn: time, CPU, memory, output, and where they disagree.

The account is moto, a double of AWS, in the venv that `cargo xtask setup` makes. All runs in a network namespace of its own that has a
loopback and nothing else, where the kernel allows to make one. `CAIRN_PROWLER` names the program `prowler`; to have it:

    python3 -m venv /somewhere/prowler && /somewhere/prowler/bin/pip install 'prowler==5.46.*'      # 2 GB, some ten minutes

Cairn runs first, so whatever moto does only once falls to it. Its server is started before, as it is in use; its start is a figure of its
own. Prowler does not repeat calls that moto answers with an error, which would only make it slower.
"""

import atexit
import collections
import csv
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile

import measure

# Prowler's names of the services that Cairn reads; Cairn reads all that it knows.
SERVICES = (
    "accessanalyzer", "account", "acm", "apigateway", "autoscaling", "awslambda", "backup", "cloudformation", "cloudfront", "cloudtrail",
    "cloudwatch", "config", "dynamodb", "ec2", "ecr", "ecs", "efs", "eks", "elasticache", "elbv2", "guardduty", "iam", "kinesis", "kms",
    "opensearch", "organizations", "rds", "redshift", "route53", "s3", "secretsmanager", "securityhub", "sns", "sqs", "ssm", "vpc", "wafv2",
)
REGION = "us-east-1"
KEYS = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "a-secret-of-a-benchmark"}
GOALS = (("wall", "s", ""), ("CPU", "s", ">= 10"), ("peak RSS", "MB", ">= 10"), ("output", "MB", ">= 20"))

# Prowler's check, our rule, and the type of node that it is about.
CHECKS = (
    ("s3_bucket_secure_transport_policy", "aws-s3-https-only", "aws.s3.bucket"),
    ("s3_bucket_level_public_access_block", "aws-s3-public-access-block", "aws.s3.bucket"),
    ("s3_bucket_default_encryption", "aws-s3-encryption", "aws.s3.bucket"),
    ("s3_bucket_object_versioning", "aws-s3-versioning", "aws.s3.bucket"),
    ("s3_bucket_server_access_logging_enabled", "aws-s3-access-logging", "aws.s3.bucket"),
    ("s3_bucket_no_mfa_delete", "aws-s3-mfa-delete", "aws.s3.bucket"),
    ("s3_account_level_public_access_blocks", "aws-s3-account-public-access-block", "aws.s3.account_public_access_block"),
    ("iam_password_policy_minimum_length_14", "aws-password-length", "aws.iam.password_policy"),
    ("iam_password_policy_reuse_24", "aws-password-reuse", "aws.iam.password_policy"),
    ("iam_no_root_access_key", "aws-root-no-access-keys", "aws.iam.account_summary"),
    ("iam_root_mfa_enabled", "aws-root-mfa", "aws.iam.account_summary"),
    ("iam_support_role_created", "aws-support-role", "aws.account"),
    ("iam_user_mfa_enabled_console_access", "aws-user-mfa", "aws.iam.user"),
    ("iam_user_two_active_access_key", "aws-user-one-key", "aws.iam.user"),
    ("iam_policy_attached_only_to_group_or_roles", "aws-user-groups-only", "aws.iam.user"),
    ("iam_customer_attached_policy_no_administrative_privileges", "aws-policy-no-admin", "aws.iam.policy"),
    ("sqs_queues_not_publicly_accessible", "aws-queue-topic-not-public", "aws.sqs.queue"),
    ("sns_topics_not_publicly_accessible", "aws-queue-topic-not-public", "aws.sns.topic"),
    ("dynamodb_tables_pitr_enabled", "aws-dynamodb-recovery", "aws.dynamodb.table"),
    ("rds_instance_storage_encrypted", "aws-rds-encrypted", "aws.rds.db_instance"),
    ("rds_instance_no_public_access", "aws-rds-not-public", "aws.rds.db_instance"),
    ("rds_instance_minor_version_upgrade_enabled", "aws-rds-minor-upgrades", "aws.rds.db_instance"),
    ("rds_instance_deletion_protection", "aws-rds-deletion-protection", "aws.rds.db_instance"),
    ("rds_instance_backup_enabled", "aws-rds-backups", "aws.rds.db_instance"),
    ("kms_cmk_rotation_enabled", "aws-kms-rotation", "aws.kms.key"),
    ("kms_key_not_publicly_accessible", "aws-kms-key-not-public", "aws.kms.key"),
)
# Types of which an account has one, which each names in its way.
ONE = ("aws.account", "aws.iam.account_summary", "aws.iam.password_policy", "aws.s3.account_public_access_block")


def alone():
    """Goes on in a network namespace that has a loopback only, where this is possible."""
    if os.environ.get("CAIRN_BENCH_ALONE"):
        return
    own = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    script = 'ip link set lo up && CAIRN_BENCH_ALONE=1 exec "$@"'
    if subprocess.run([*own, "ip", "link", "set", "lo", "up"], check=False, capture_output=True).returncode == 0:
        os.execvp(own[0], [*own, "sh", "-c", script, "sh", sys.executable, *sys.argv])
    measure.say("no network namespace of its own here: Prowler may look for the Internet")


class Moto:
    """The account."""

    def __init__(self, folder):
        venv = pathlib.Path(os.environ.get("CAIRN_MOTO_VENV", measure.ROOT / ".venv")) / "bin"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{port}", folder / "moto.log"
        environment = os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "true", "MOTO_ACM_VALIDATION_WAIT": "86400"}
        with self.log.open("wb") as log:
            self.child = subprocess.Popen([venv / "moto_server", "-H", "127.0.0.1", "-p", str(port)], env=environment, stdout=log, stderr=log)
        atexit.register(self.child.kill)
        measure.until("moto's start", lambda: True if socket.socket().connect_ex(("127.0.0.1", port)) == 0 else None)
        for script in ("crates/testkit/peers/seed_aws.py", "benches/seed_more.py"):
            subprocess.run([venv / "python", measure.ROOT / script, self.url], check=True, stdout=subprocess.DEVNULL)

    def so_far(self):
        """CPU seconds and calls answered."""
        return measure.cpu_s(self.child.pid), len(re.findall(r'HTTP/1\.1" \d{3}', self.log.read_text(errors="replace")))


def cairn(moto, folder):
    server = measure.Server(folder / "cairn", CAIRN_DISCOVERY_LOOPBACK_TARGETS="true")
    server.start()
    server.login(first=True)
    (secret := folder / "secret.json").write_text(json.dumps(KEYS))
    secret.chmod(0o600)
    server.cairn("creds", "add", "--plugin", "aws", "--name", "prod", "--type", "aws-keys", "--from-file", secret)
    server.stop()
    before = measure.folder_bytes(server.data)
    start = server.start()
    server.login(first=False)
    cpu, (moto_cpu, calls) = measure.cpu_s(server.child.pid), moto.so_far()
    wall, own_cpu, own_memory, _, text = server.cairn(
        "jobs", "run", "--plugin", "aws", "--credential", "prod", "--set", f"regions={REGION}", "--set", f"endpoint_url={moto.url}", "--wait",
        "-o", "json", stderr=subprocess.DEVNULL)
    cpu = measure.cpu_s(server.child.pid) - cpu + own_cpu
    memory = measure.kilobytes(server.child.pid, "status", "VmHWM") + own_memory
    moto_after = moto.so_far()
    measure.say(f"cairn: job {json.loads(text)['status']}")
    nodes, findings = server.json("nodes", "list", "--all"), server.json("findings", "list", "--status", "open", "--all")
    server.stop()
    seen, failed = collections.defaultdict(set), collections.defaultdict(set)
    for node in nodes:
        seen[node["type"]].add(node["id"])
    for finding in findings:
        failed[finding["rule"]].add(finding["node"])
    measure.say(f"cairn: {len(nodes)} nodes, {len(findings)} findings")
    measured = {"wall": wall, "CPU": cpu, "peak RSS": memory, "output": (measure.folder_bytes(server.data) - before) / 1e6,
                "calls": moto_after[1] - calls, "moto": moto_after[0] - moto_cpu, "start": start}

    def verdicts(rule, about):
        return {"the account" if about in ONE else tail(node): "FAIL" if node in failed[rule] else "PASS" for node in seen[about]}

    return measured, verdicts


def prowler(program, moto, folder):
    out = folder / "prowler"
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "AWS_ENDPOINT_URL": moto.url, "AWS_DEFAULT_REGION": REGION,
                   "AWS_EC2_METADATA_DISABLED": "true"} | {f"AWS_{name.upper()}": value for name, value in KEYS.items()}
    moto_cpu, calls = moto.so_far()
    with (folder / "prowler.log").open("wb") as log:
        wall, cpu, memory, code, text = measure.run(
            [program, "aws", "--services", *SERVICES, "--region", REGION, "--output-formats", "csv", "json-ocsf", "--output-directory", out,
             "--output-filename", "out", "--no-banner", "--aws-retries-max-attempts", "1"], env=environment, cwd=folder, stderr=log)
    moto_after = moto.so_far()
    if code not in (0, 3):  # 3: something failed, which is what it is for
        sys.exit(f"prowler ended with {code}:\n{text}\n{(folder / 'prowler.log').read_text()}")
    found = collections.defaultdict(lambda: collections.defaultdict(set))
    csv.field_size_limit(1 << 30)
    with (out / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    for row in rows:
        found[row["CHECK_ID"]][row["RESOURCE_UID"]].add(row["STATUS"])
    measure.say(f"prowler: {len(rows)} verdicts of {len(found)} checks; {sum(row['STATUS'] == 'FAIL' for row in rows)} fail")
    measure.say(f"prowler: its findings take {sum(file.stat().st_size for file in out.iterdir() if file.is_file()) / 1e6:.2f} MB of its output")
    measured = {"wall": wall, "CPU": cpu, "peak RSS": memory, "output": measure.folder_bytes(out) / 1e6,
                "calls": moto_after[1] - calls, "moto": moto_after[0] - moto_cpu,
                "start": measure.run([program, "-v"], env=environment, cwd=folder, stderr=subprocess.DEVNULL)[0]}

    def verdicts(check, about):
        worst = {uid: "FAIL" if "FAIL" in of else min(of) for uid, of in found[check].items()}
        if about in ONE:
            return {"the account": "FAIL" if "FAIL" in worst.values() else min(worst.values())} if worst else {}
        return {tail(uid): verdict for uid, verdict in worst.items()}

    return measured, verdicts


def tail(resource):
    """What both call a resource: the end of its ARN or id."""
    return re.split("[:/]", resource)[-1]


def compare(theirs, ours):
    """Says where the verdicts differ; resources that only one has judged are counted apart. Ours has no mark for `not applicable`: it passes."""
    agree, differ, only = 0, 0, collections.Counter()
    for check, rule, about in CHECKS:
        a, b = theirs(check, about), ours(rule, about)
        both = sorted(a.keys() & b.keys())
        different = [name for name in both if a[name] != b[name]]
        agree, differ = agree + len(both) - len(different), differ + len(different)
        only["Prowler"] += len(a.keys() - b.keys())
        only["Cairn"] += len(b.keys() - a.keys())
        alone = f"; only Prowler {len(a.keys() - b.keys())}, only Cairn {len(b.keys() - a.keys())}" if a.keys() != b.keys() else ""
        fails = sum(b[name] == "FAIL" for name in both)
        measure.say(f"  {check} / {rule}: {len(both) - len(different)} of {len(both)} agree ({fails} fail here){alone}")
        for name in different:
            measure.say(f"    {name}: Prowler {a[name]}, Cairn {b[name]}")
    measure.say(f"  in all {agree} agree, {differ} differ; only Prowler {only['Prowler']}, only Cairn {only['Cairn']}")
    return agree, differ


def main():
    program = os.environ.get("CAIRN_PROWLER") or sys.exit(
        "set CAIRN_PROWLER to the program `prowler`: python3 -m venv DIR && DIR/bin/pip install 'prowler==5.46.*', then CAIRN_PROWLER=DIR/bin/prowler")
    measure.binaries()
    alone()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        moto = Moto(folder)
        ours, our_verdicts = cairn(moto, folder)
        theirs, their_verdicts = prowler(program, moto, folder)
        for what, unit, goal in GOALS:
            measure.figure(f"account, Prowler: {what}", theirs[what], unit, "Cairn", ours[what], goal)
        measure.figure("account, Prowler: wall less moto's CPU", theirs["wall"] - theirs["moto"], "s", "Cairn", ours["wall"] - ours["moto"], ">= 10")
        measure.figure("account, start: `prowler -v`", theirs["start"], "s", "cairn-server until it is ready", ours["start"])
        measure.figure("account, Prowler: API calls", theirs["calls"], "calls", "Cairn", ours["calls"])
        measure.figure("account, moto's CPU under Prowler", theirs["moto"], "s", "under Cairn", ours["moto"])
        agree, differ = compare(their_verdicts, our_verdicts)
        if agree + differ == 0:
            sys.exit("no verdict could be compared")
        measure.figure("account, verdicts that agree with Prowler's", agree, "verdicts", "verdicts on what both judged", agree + differ)


main()
