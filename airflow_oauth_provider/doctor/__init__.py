"""Finds out what is wrong with a connection, in the order in which a person would look, without spending anything."""
