"""Strategies that come with Penstock; each is one file and may serve as a pattern for yours."""
