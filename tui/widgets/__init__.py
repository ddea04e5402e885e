"""Small widgets of the dashboard."""
