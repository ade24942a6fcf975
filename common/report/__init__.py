"""What a run did, as one HTML file."""
