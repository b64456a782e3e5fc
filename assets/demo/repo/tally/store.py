"""Entries on disk: one line of CSV each."""

from tally import entry, money


def save(entries, path):
    """Writes all entries, replacing what was there."""
    with open(path, "w", encoding="utf-8") as file:
        for item in entries:
            fields = [
                item.day.isoformat(),
                money.show(item.cents),
                item.category,
                item.note,
            ]
            file.write(",".join(fields) + "\n")


def load(path):
    """Reads all entries."""
    entries = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            day, amount, category, note = line.rstrip("\n").split(",")
            entries.append(entry.make(day, money.parse(amount), category, note))
    return entries
