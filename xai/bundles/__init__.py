"""What is written together: explanations and attacks of pictures, and the HTML report on them."""
