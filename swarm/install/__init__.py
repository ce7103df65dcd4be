"""What a device does with an image: verify it, keep it in the spare slot, try it, confirm it or take it back."""
