"""Showing: records in, tables out. Imports nothing else of ours."""
