"""What the pages of the app share: controls, address, pictures, charts, and the frame of comparisons."""
