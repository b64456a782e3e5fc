"""A small expense tracker: one CSV file in, totals out."""

VERSION = "0.3.0"
