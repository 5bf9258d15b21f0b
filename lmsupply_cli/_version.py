__version__ = "0.1.0"
JSON_SCHEMA = 2  # of every JSON object that is printed; higher where keys were renamed or removed
