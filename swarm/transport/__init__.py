"""How frames reach other devices: topics, the MQTT adapter and the embedded broker."""
