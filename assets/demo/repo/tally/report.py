"""Totals."""


def by_category(entries):
    """Cents for each category, the dearest first."""
    totals = {}
    for entry in entries:
        totals[entry.category] = totals.get(entry.category, 0) + entry.cents
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


def by_month(entries):
    """Cents for each month such as "2026-03", the earliest first."""
    totals = {}
    for entry in entries:
        month = entry.day.strftime("%Y-%m")
        totals[month] = totals.get(month, 0) + entry.cents
    return dict(sorted(totals.items()))


def shares(entries):
    """Percent of the sum for each category."""
    total = sum(entry.cents for entry in entries)
    return {
        category: round(100 * cents / total)
        for category, cents in by_category(entries).items()
    }
