"""Stages at work: what runs a logic, feeds it, and keeps what it gives."""
