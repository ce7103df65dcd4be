"""What a checker says at the end: held, or the first violation in words."""

from __future__ import annotations


class Checker:
    """Collects complaints; the first one is what is shown, the number of all is said."""

    def __init__(self) -> None:
        """Start without complaints."""
        self.complaints: list[str] = []

    def complain(self, text: str) -> None:
        """Note a violation; bounded, because one bug makes thousands."""
        if len(self.complaints) < 1000:
            self.complaints.append(text)

    def verdict(self) -> str:
        """Return `held` or `violated: ...`."""
        if not self.complaints:
            return "held"
        more = f" (and {len(self.complaints) - 1} more)" if len(self.complaints) > 1 else ""
        return f"violated: {self.complaints[0]}{more}"
