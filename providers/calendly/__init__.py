"""Calendly: `api`, its REST API."""
