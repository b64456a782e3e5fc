"""Limits for categories."""

from tally import report


def exceeded(entries, limits):
    """The categories that cost more than their limit, and by how many cents."""
    spent = report.by_category(entries)
    return {
        category: spent[category] - limit
        for category, limit in limits.items()
        if spent[category] >= limit
    }
