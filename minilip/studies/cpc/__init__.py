"""Long measurements of lesson 02."""
