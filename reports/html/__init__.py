"""All leaderboards as one self-contained page: `page(boards)`, or `part` by `part` and then `assemble`."""

from reports.html.drawings import across, drawn_before
from reports.html.page import Part, assemble, page, part

__all__ = ["Part", "across", "assemble", "drawn_before", "page", "part"]
