"""What a researcher uses and a device never imports: scenarios, simulator, processes, attackers, checkers."""
