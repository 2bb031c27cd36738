"""Lets Artigraph save NetworkX graphs, and keep data in SQLite Archive files."""
