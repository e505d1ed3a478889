"""Long measurements of lesson 09."""
