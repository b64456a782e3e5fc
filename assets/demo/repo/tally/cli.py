"""The command line."""

import argparse
import sys

from tally import money, report, store


def main(argv=None, out=sys.stdout):
    """Runs one command; the exit code."""
    parser = argparse.ArgumentParser(prog="tally")
    parser.add_argument("file", help="CSV file with the entries")
    parser.add_argument("--by", choices=["category", "month"], default="category")
    options = parser.parse_args(argv)
    entries = store.load(options.file)
    totals = report.by_category(entries)
    for name, cents in totals.items():
        print("{:<12} {:>10}".format(name, money.show(cents)), file=out)
    return 0
