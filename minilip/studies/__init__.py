"""Long measurements that lessons read, a folder a lesson, and the store that keeps them."""
