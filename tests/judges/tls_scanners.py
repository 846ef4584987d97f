"""sslscan and testssl.sh against the daemon's HTTPS port.

Usage: tls_scanners.py DAEMON TOOL…    TOOL: sslscan, testssl or testssl-quick

No protocol below TLS 1.2, no suite that is not in the list, and of testssl nothing above "low" but
what is accepted below. `testssl-quick` leaves out the certificate, the vulnerabilities of other TLS
libraries' past and the simulated clients, which take most of its time.
"""

import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

import daemon

SUITES = {
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
}
OLD = {("ssl", "2"), ("ssl", "3"), ("tls", "1.0"), ("tls", "1.1")}
NEW = {("tls", "1.2"), ("tls", "1.3")}

# What testssl finds and why that is right here: the whole finding, so that another one is seen.
ACCEPTED = {
    # The local authority is trusted by whoever installed it, and nobody else.
    "cert_chain_of_trust": "failed (chain incomplete).",
    # The local authority has no service that tells revoked certificates.
    "cert_revocation": "Neither CRL nor OCSP URI provided",
    # `openssl s_client` may leave before the session ticket of TLS 1.3 comes.
    "sessionresumption_ticket": "check failed because of connect problem",
    # Of the scanner's own OpenSSL, not of ours.
    "engine_problem": "No engine or GOST support via engine with your /usr/bin/openssl",
}
HARMLESS = {"OK", "INFO", "LOW"}
# Findings without which the scan was none: most fall out when a connection fails.
NEEDED = {
    "TLS1": "not offered",
    "TLS1_1": "not offered",
    "TLS1_2": "offered",
    "TLS1_3": "offered with final",
    "cipherlist_STRONG": "offered",
    "PFS": "offered",
    "HTTP_status_code": "200 OK",
}
QUICK = ["--protocols", "--std", "--pfs", "--server-preference", "--headers"]
TIME = 600


def sslscan(port):
    command = ["sslscan", "--xml=-", "--no-colour", f"127.0.0.1:{port}"]
    text = subprocess.run(command, capture_output=True, timeout=TIME, check=True).stdout
    root = xml.etree.ElementTree.fromstring(text)
    enabled = {
        (entry.get("type"), entry.get("version")): entry.get("enabled") == "1"
        for entry in root.iter("protocol")
    }
    wrong = [f"{protocol} is offered or unknown" for protocol in OLD if enabled.get(protocol, True)]
    wrong += [f"{protocol} is not offered" for protocol in NEW if not enabled.get(protocol)]
    suites = {entry.get("cipher") for entry in root.iter("cipher")}
    wrong += [f"suite {suite}" for suite in suites - SUITES]
    wrong += [f"suite {suite} is missing" for suite in SUITES - suites]
    wrong += ["Heartbleed" for entry in root.iter("heartbleed") if entry.get("vulnerable") != "0"]
    return f"TLS 1.2 and 1.3, {len(suites)} suites", wrong


def testssl(port, options):
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        command = ["testssl", "--warnings", "batch", "--quiet", "--color", "0", "--ip", "127.0.0.1"]
        command += ["--jsonfile", report, *options, f"localhost:{port}"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=TIME, check=False)
        if not report.is_file():
            return "", [f"no report: {run.stdout[-1000:]}{run.stderr[-1000:]}"]
        found = json.loads(report.read_text())
    wrong = [
        f"{entry['severity']} {entry['id']}: {entry['finding']}"
        for entry in found
        if entry["severity"] not in HARMLESS and ACCEPTED.get(entry["id"]) != entry["finding"]
    ]
    told = {entry["id"]: entry["finding"] for entry in found}
    wrong += [
        f"{name} is {told.get(name)!r}, not {finding!r}"
        for name, finding in NEEDED.items()
        if finding not in told.get(name, "")
    ]
    figures = collections.Counter(entry["severity"] for entry in found)
    return ", ".join(f"{count} {name}" for name, count in figures.items()), wrong


TOOLS = {
    "sslscan": sslscan,
    "testssl": lambda port: testssl(port, []),
    "testssl-quick": lambda port: testssl(port, QUICK),
}


def judge(tool, port):
    start = time.monotonic()
    try:
        figures, wrong = TOOLS[tool](port)
    except (OSError, subprocess.SubprocessError, xml.etree.ElementTree.ParseError) as error:
        figures, wrong = "", [str(error)]
    print(f"{tool}: {'FAILED' if wrong else 'passed'} in {time.monotonic() - start:.0f} s: {figures}")
    for what in wrong:
        print(f"{tool}: {what}")
    return not wrong


def main(words):
    program, *tools = words or [None]
    if not tools or not set(tools) <= set(TOOLS):
        raise SystemExit(__doc__)
    with daemon.demo(program) as running:
        passed = [judge(tool, running.secure) for tool in tools]
    sys.exit(not all(passed))


if __name__ == "__main__":
    main(sys.argv[1:])
