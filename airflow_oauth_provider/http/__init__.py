"""Requests to APIs: when they leave, when they are repeated, and what becomes of the answers."""
