"""How a network meets a volume: exact tiles, device, precision and memory."""
