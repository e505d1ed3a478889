"""Long measurements of lesson 10."""
