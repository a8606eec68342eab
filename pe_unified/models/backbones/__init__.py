"""Backbones that declare their levels."""
