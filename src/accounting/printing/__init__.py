"""What customers get on paper: documents as PDF, and the company that they come from."""
