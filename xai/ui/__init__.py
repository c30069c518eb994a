"""What the pages share: jobs, pictures, forms, figures and the components drawn in the browser."""
