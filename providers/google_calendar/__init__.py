"""Google Calendar: `api`, its REST API."""
