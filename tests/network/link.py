#!/usr/bin/env python3
"""A bad network link between two network namespaces, in user space.

Debian's kernels have netem for this, but the kernels of many build machines have not. So this program
makes two TUN interfaces, one in its own namespace and one in that of another process, and carries the
packets between them as badly as it is told. It needs Linux, root (in a user namespace is enough),
/dev/net/tun, iproute2 and Python 3.9, and nothing else.

    link.py NAME --far PID --near-address 10.0.0.1/24 --far-address 10.0.0.2/24 [OPTION...]

The interfaces are called NAME; both are up when it prints "ready". It then reads commands, a line each,
and answers each with a line:

    set delay=40 loss=5     change these; everything that is not named stays
    count                   tell the counters, as JSON
    end of file             remove the link, and end

The same seed and the same packets meet the same fate: each direction draws the same four numbers for
each packet, whatever is switched on. (The packets themselves are the kernel's, so they are never quite the
same twice. What happened is what the counters tell, not what the percentages promise.)
"""

import argparse
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
MTU = 1500
# How long a packet that is overtaken is held back, in seconds: longer than the 20 ms between two frames.
HELD_BACK = 0.03

# What can be set, with its meaning. All count in both directions.
SETTINGS = {
    "delay": "ms that each packet takes",
    "jitter": "ms by which that varies, both ways; the order stays",
    "loss": "percent of packets that are lost",
    "duplicate": "percent of packets that come twice",
    "reorder": "percent of packets that are held back until later ones have overtaken them",
    "rate": "kbit/s; 0 for no limit",
    "queue": "kB that may wait for the rate; what comes on top is dropped",
    "down": "1 while the link carries nothing",
}
USUAL = {"delay": 0, "jitter": 0, "loss": 0, "duplicate": 0, "reorder": 0, "rate": 0, "queue": 64, "down": 0}


class Direction:
    """One way: decides what becomes of each packet. Pure: it is told the time, in seconds."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.free_at = 0.0  # when the last packet has left, at the rate
        self.last_due = 0.0  # when the last packet arrives that was not held back
        self.counters = dict.fromkeys(
            ("packets", "bytes", "delivered", "lost", "outage", "overflow", "duplicated", "reordered"), 0
        )

    def fate(self, size, settings, outage, now):
        """When copies of a packet arrive: none, one or two times."""
        lost, twice, late, jitter = (self.random.random() for _ in range(4))
        self.counters["packets"] += 1
        self.counters["bytes"] += size
        if outage:
            self.counters["outage"] += 1
            return []
        if lost * 100 < settings["loss"]:
            self.counters["lost"] += 1
            return []
        leaves = now
        if settings["rate"]:
            waiting = max(self.free_at - now, 0) * settings["rate"] / 8
            if waiting > settings["queue"]:
                self.counters["overflow"] += 1
                return []
            leaves = max(self.free_at, now) + size * 8 / (settings["rate"] * 1000)
            self.free_at = leaves
        due = leaves + max(settings["delay"] + settings["jitter"] * (2 * jitter - 1), 0) / 1000
        if late * 100 < settings["reorder"]:
            self.counters["reordered"] += 1
            arrivals = [due + HELD_BACK]
        else:
            self.last_due = max(due, self.last_due)
            arrivals = [self.last_due]
        if twice * 100 < settings["duplicate"]:
            self.counters["duplicated"] += 1
            arrivals.append(arrivals[0])
        self.counters["delivered"] += len(arrivals)
        return arrivals


def run(*words):
    subprocess.run(words, check=True)


def interface(name, address, namespace_of=None):
    """A TUN interface that is up; its descriptor stays valid when it moves to another namespace."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    inside = ()
    if namespace_of is not None:
        run("ip", "link", "set", "dev", name, "netns", str(namespace_of))
        inside = ("nsenter", f"--net=/proc/{namespace_of}/ns/net", "--")
    run(*inside, "ip", "addr", "add", address, "dev", name)
    run(*inside, "ip", "link", "set", "dev", name, "mtu", str(MTU), "up")
    return tun


class Link:
    """Two interfaces, the packets under way between them, and the commands."""

    def __init__(self, tuns, settings, outages, seed):
        self.settings = settings
        self.outages = outages
        self.start = time.monotonic()
        # Where the packets that come from one interface go, and by which direction.
        self.ways = {
            tuns[0]: (tuns[1], Direction(2 * seed)),
            tuns[1]: (tuns[0], Direction(2 * seed + 1)),
        }
        self.under_way = []  # (when it is due, number, to, packet)
        self.number = 0
        self.commands = b""

    def is_down(self, now):
        since = now - self.start
        return self.settings["down"] or any(a <= since < b for a, b in self.outages)

    def take(self, tun):
        """Takes all packets that wait at an interface."""
        to, direction = self.ways[tun]
        while True:
            try:
                packet = os.read(tun, 65536)
            except BlockingIOError:
                return
            now = time.monotonic()
            for due in direction.fate(len(packet), self.settings, self.is_down(now), now):
                self.number += 1
                heapq.heappush(self.under_way, (due, self.number, to, packet))

    def deliver(self):
        """Hands over what is due; the seconds until the next packet is, or None."""
        while self.under_way:
            due, _, to, packet = self.under_way[0]
            wait = due - time.monotonic()
            if wait > 0:
                return wait
            heapq.heappop(self.under_way)
            try:
                os.write(to, packet)
            except OSError:
                pass  # The other interface is down or full: the packet is lost, as on any network.
        return None

    def count(self):
        near, far = (direction.counters for _, direction in self.ways.values())
        return {"to_far": near, "to_near": far}

    def obey(self):
        """Reads commands; false at the end of the file."""
        chunk = os.read(0, 4096)
        self.commands += chunk
        while b"\n" in self.commands:
            line, self.commands = self.commands.split(b"\n", 1)
            print(self.answer(line.decode().split()), flush=True)
        return bool(chunk)

    def answer(self, words):
        if words == ["count"]:
            return json.dumps(self.count())
        if words[:1] == ["set"]:
            self.settings.update(assignments(words[1:]))
            return "set"
        return f"unknown command: {' '.join(words)}"

    def carry(self):
        wait = None
        while True:
            ready, _, _ = select.select([0, *self.ways], [], [], wait)
            for source in ready:
                if source in self.ways:
                    self.take(source)
                elif not self.obey():
                    return
            wait = self.deliver()


def assignments(words):
    pairs = [word.split("=", 1) for word in words]
    for key, _ in pairs:
        if key not in SETTINGS:
            raise SystemExit(f"unknown setting: {key}")
    return {key: float(value) for key, value in pairs}


def span(text):
    start, end = text.split("-")
    return float(start), float(end)


def main():
    parser = argparse.ArgumentParser(description="A bad network link between two network namespaces.")
    parser.add_argument("name")
    parser.add_argument("--far", type=int, required=True, help="a process in the other namespace")
    parser.add_argument("--near-address", required=True)
    parser.add_argument("--far-address", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--outage", type=span, action="append", default=[], metavar="FROM-TO",
                        help="seconds since the start in which nothing is carried; may be repeated")
    for key, meaning in SETTINGS.items():
        parser.add_argument(f"--{key}", type=float, default=USUAL[key], help=meaning.replace("%", "%%"))
    options = parser.parse_args()
    settings = {key: getattr(options, key) for key in SETTINGS}
    far = interface(options.name, options.far_address, options.far)
    near = interface(options.name, options.near_address)
    link = Link((near, far), settings, options.outage, options.seed)
    print("ready", flush=True)
    link.carry()


if __name__ == "__main__":
    sys.exit(main())
