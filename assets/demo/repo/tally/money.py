"""Amounts of money as whole cents, so that nothing is lost to rounding."""


def parse(text):
    """Reads an amount such as "12.50", "-3" or "1,234.50" as cents."""
    text = text.strip()
    sign = 1
    if text.startswith("-"):
        sign = -1
        text = text[1:]
    whole, _, cents = text.partition(".")
    return sign * (int(whole) * 100 + int(cents or 0))


def show(cents):
    """Writes cents as "12.50"."""
    sign = "-" if cents < 0 else ""
    return "{}{}.{:02d}".format(sign, abs(cents) // 100, abs(cents) % 100)
