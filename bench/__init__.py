"""Measures whole commands of this project against what people would use instead. No part of what runs on a server."""
