#!/usr/bin/env python3
"""Tells a fortune. The arguments come as JSON on standard input, and the result is printed as JSON."""

import json
import random
import sys

FORTUNES = {
    "work": ["What you put off today will be easier tomorrow, but not by much.", "A short meeting awaits you."],
    "love": ["Somebody thinks of you at this moment.", "A message that you did not expect will be kind."],
    "travel": ["The train will be late, and the company good.", "You will find a better way home."],
}

arguments = json.load(sys.stdin)
subject = arguments.get("about") or random.choice(list(FORTUNES))
json.dump({"about": subject, "fortune": random.choice(FORTUNES[subject])}, sys.stdout)
