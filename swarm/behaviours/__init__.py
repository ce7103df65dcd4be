"""What a device senses, how it ballots and what it does with an outcome; built-ins and the plug-in loader."""
