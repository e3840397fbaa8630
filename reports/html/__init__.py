"""All leaderboards as one self-contained page: `reports.html.page(boards)`."""

from reports.html.page import page

__all__ = ["page"]
