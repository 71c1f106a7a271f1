"""Penstock: an asyncio streaming pipeline service for market data."""
