"""From one YAML file to one frozen scenario, and from one run to one result."""
