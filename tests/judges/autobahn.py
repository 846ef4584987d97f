"""Autobahn against examples/ws_echo: the WebSocket layer in both roles, strictly by its report.

Usage: autobahn.py WSTEST ECHO MODE…    MODE: server, split or client

WSTEST is the program of `autobahntestsuite` 25.10.1 (Python 2.7), ECHO the built example.

- server: a fuzzing client against the echo server
- split:  the same through a proxy that cuts every write, groups 1 to 7 and 10
- client: the echo client against a fuzzing server

Groups 1 to 7 and 10 must be OK (6.4.3 and 6.4.4 may tell late that a text is no UTF-8, 7.1.6,
7.13.1 and 7.13.2 only inform); in group 9 what has more than 64 KiB must be closed with 1009 and
the rest be OK; 12 and 13 (compression) are unimplemented. Every case must be in the report.
"""

import asyncio
import collections
import json
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time

# Cases of each group in 25.10.1. A report with fewer is no report.
CASES = {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1, 12: 90, 13: 126}
STRICT_GROUPS = [1, 2, 3, 4, 5, 6, 7, 10]
MAY_BE_LATE = {"6.4.3", "6.4.4"}
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
TIME = 900


def is_too_big(case):
    """Whether the case sends a message of more than 64 KiB."""
    group, part, number = map(int, (case + ".0").split(".")[:3])
    return group == 9 and (part in (3, 4, 5, 6) or (part in (1, 2) and number > 1))


def verdict(case, entry):
    """Nothing if the case is as it must be; else what is wrong."""
    group = int(case.split(".")[0])
    behaviour, closing, code = (
        entry["behavior"],
        entry["behaviorClose"],
        entry["remoteCloseCode"],
    )
    if group in (12, 13):
        return None if behaviour == "UNIMPLEMENTED" else behaviour
    if is_too_big(case):
        return None if code == 1009 else f"{behaviour}, close code {code} instead of 1009"
    allowed = {"OK"}
    if case in MAY_BE_LATE:
        allowed.add("NON-STRICT")
    if case in INFORMATIONAL:
        allowed.add("INFORMATIONAL")
    if behaviour in allowed and closing in {"OK", "INFORMATIONAL"}:
        return None
    return f"{behaviour}, closing {closing}, close code {code}"


def judge(mode, folder, groups, seconds):
    """Prints the figures of a report; whether it is as it must be."""
    index = folder / "index.json"
    if not index.is_file():
        print(f"{mode}: FAILED, there is no report")
        return False
    (cases,) = json.loads(index.read_text()).values()
    wrong = {case: verdict(case, entry) for case, entry in cases.items()}
    wrong = {case: what for case, what in wrong.items() if what}
    found = collections.Counter(int(case.split(".")[0]) for case in cases)
    for group in groups:
        if found[group] != CASES[group]:
            wrong[f"{group}.*"] = f"{found[group]} cases instead of {CASES[group]}"
    # Autobahn expects an echo of any length and calls a refusal FAILED: here it is what must be.
    refused = {case for case in cases if is_too_big(case) and case not in wrong}
    others = [entry["behavior"] for case, entry in cases.items() if case not in refused]
    told = [f"{count} {name}" for name, count in sorted(collections.Counter(others).items())]
    told += [f"{len(refused)} of more than 64 KiB refused with 1009"] if refused else []
    outcome = f"FAILED, {len(wrong)} are not" if wrong else "all"
    print(f"{mode}: {outcome} as they must be: {len(cases)} cases in {seconds:.0f} s: {', '.join(told)}")
    for case, what in sorted(wrong.items()):
        print(f"{mode}: case {case}: {what}")
    return not wrong


def free_port():
    """For programs that cannot say which port they got. The kernel gives out ports from 32768 on, so none of
    these is given to others that start meanwhile."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def wait_for(port):
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nobody listens on port {port}")


async def carry(reader, writer, seed):
    """Every write is cut: into 1 to 7 bytes, after a while into up to 1,400."""
    cuts, passed = random.Random(seed), 0
    try:
        while data := await reader.read(65536):
            while data:
                size = cuts.randint(1, 7 if passed < 2000 else 1400)
                writer.write(data[:size])
                await writer.drain()
                await asyncio.sleep(0)
                data, passed = data[size:], passed + size
        writer.write_eof()
    except OSError:
        writer.close()


async def split(port, target):
    async def serve(reader, writer):
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", target)
        for side in (writer, other_writer):
            sock = side.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.gather(
            carry(reader, other_writer, 1), carry(other_reader, writer, 2)
        )
        writer.close()
        other_writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


def groups_of(mode):
    return STRICT_GROUPS if mode == "split" else list(CASES)


def fuzz_server(wstest, echo, mode, folder):
    """A fuzzing client against the echo server, straight or through the splitting proxy."""
    port, running = free_port(), []
    running.append(subprocess.Popen([echo, "server", f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL))
    try:
        wait_for(port)
        if mode == "split":
            proxy = free_port()
            command = [sys.executable, __file__, "--split", str(proxy), str(port)]
            running.append(subprocess.Popen(command))
            wait_for(proxy)
            port = proxy
        spec = {
            "outdir": str(folder),
            "servers": [{"agent": "voicelived", "url": f"ws://127.0.0.1:{port}"}],
            "cases": [f"{group}.*" for group in groups_of(mode)],
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        run_wstest(wstest, "fuzzingclient", spec, folder)
    finally:
        stop(running)


def fuzz_client(wstest, echo, folder):
    """The echo client against a fuzzing server."""
    port = free_port()
    spec = {
        "url": f"ws://127.0.0.1:{port}",
        "outdir": str(folder),
        "cases": [f"{group}.*" for group in groups_of("client")],
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    path = folder.parent / "fuzzingserver.json"
    path.write_text(json.dumps(spec))
    command = [wstest, "-m", "fuzzingserver", "-s", path, "-u", "0"]
    log = (folder.parent / "wstest.log").open("w")
    running = [subprocess.Popen(command, stdout=log, stderr=log)]
    try:
        wait_for(port)
        command = [echo, "client", f"127.0.0.1:{port}", "voicelived"]
        subprocess.run(command, timeout=TIME, check=True)
    finally:
        stop(running)


def run_wstest(wstest, role, spec, folder):
    path = folder.parent / f"{role}.json"
    path.write_text(json.dumps(spec))
    log = folder.parent / "wstest.log"
    with log.open("w") as out:
        done = subprocess.run([wstest, "-m", role, "-s", path], stdout=out, stderr=out, timeout=TIME)
    if done.returncode:
        print(log.read_text()[-2000:])


def stop(processes):
    for process in processes:
        process.terminate()
        process.wait(60)


def run(wstest, echo, mode):
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "report"
        folder.mkdir()
        start = time.monotonic()
        try:
            if mode == "client":
                fuzz_client(wstest, echo, folder)
            else:
                fuzz_server(wstest, echo, mode, folder)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"{mode}: FAILED, {error}")
            return False
        return judge(mode, folder, groups_of(mode), time.monotonic() - start)


def main(words):
    if words[:1] == ["--split"]:
        asyncio.run(split(int(words[1]), int(words[2])))
    wstest, echo, *modes = words
    known = {"server", "split", "client"}
    if not modes or not set(modes) <= known:
        raise SystemExit(__doc__)
    sys.exit(not all([run(wstest, echo, mode) for mode in modes]))


if __name__ == "__main__":
    main(sys.argv[1:])
