"""What a field of a config must be, as errors say it, by its type."""

WANTED = {
  bool: "True or False",
  int: "an integer",
  float: "a finite number",
  str: "a string",
  tuple: "a tuple",
}


def wanted(field: str, kind: type) -> str:
  """Returns what a field must be, however its value is wrong."""
  is_one_of_few = field.startswith("quantizer.") and field.endswith(".kind")
  return "one of" if is_one_of_few else WANTED[kind]
