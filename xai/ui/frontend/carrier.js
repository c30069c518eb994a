// Invisible: hands the bytes that Python sent to the bus.
export default function ({ data, parentElement }) {
  receive(data, parentElement);
}
