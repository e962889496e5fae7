"""Core of the i-Reporter server migration: typed, free of Ansible, run by modules and by the tools installed on servers."""
