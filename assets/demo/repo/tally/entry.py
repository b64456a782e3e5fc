"""One expense."""

from datetime import date


class Entry:
    """What was spent, when, and on what."""

    def __init__(self, day, cents, category, note=""):
        self.day = day
        self.cents = cents
        self.category = category
        self.note = note

    def __repr__(self):
        return "Entry({}, {}, {!r}, {!r})".format(
            self.day, self.cents, self.category, self.note
        )


def make(day, cents, category, note=""):
    """An entry from plain values; the day is written as "2026-03-01"."""
    return Entry(date.fromisoformat(day), cents, category, note)
