"""Choosing entries."""


def between(entries, first, last):
    """The entries from the day `first` to the day `last`, both included."""
    return [entry for entry in entries if first <= entry.day < last]


def of_category(entries, category):
    """The entries of one category, whatever its case."""
    wanted = category.lower()
    return [entry for entry in entries if entry.category.lower() == wanted]
