// Key/value memory of an attention engine: 8-bit keys, banked so that one element of KEY_LANES keys is one access, and rows of values.
//
// Element i of the key in lane a of its block lies in bank (a + i) % KEY_LANES, so that a write of LANES elements of one key and a
// read of one element of KEY_LANES keys both touch every bank at most once. Data come in the cycle after `..._enable` and stay until the next one.
// A write takes effect one cycle later than that of nmllm_ram: addresses are formed in a register first.
`default_nettype none

module nmllm_attention_memory #(
    parameter int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter int unsigned KEY_LANES = nmllm_pkg::KEY_LANES,
    parameter int unsigned HEAD_DIM = 64,
    parameter int unsigned BLOCKS = 64,  // of KEY_LANES keys
    parameter int unsigned ROWS = 1024,  // of values
    localparam int unsigned KEY_ADDRESS_BITS = $clog2(BLOCKS * HEAD_DIM),
    localparam int unsigned BLOCK_BITS = BLOCKS > 1 ? $clog2(BLOCKS) : 1,
    localparam int unsigned ROW_BITS = ROWS > 1 ? $clog2(ROWS) : 1,
    localparam int unsigned KEY_LANE_BITS = $clog2(KEY_LANES),
    localparam int unsigned VALUE_LANES = LANES < HEAD_DIM ? LANES : HEAD_DIM,
    localparam int unsigned VALUE_BANKS = HEAD_DIM / VALUE_LANES,
    localparam int unsigned WORD_BITS = VALUE_BANKS > 1 ? $clog2(VALUE_BANKS) : 1
) (
    input  logic                                   clk,
    input  logic                                   rst,
    // part of a row: elements write_word * LANES on, `write_lanes` of them
    input  logic                                   write_valid,
    input  logic                                   write_is_value,
    input  logic [             BLOCK_BITS-1:0]     write_block,  // of the key
    input  logic [          KEY_LANE_BITS-1:0]     write_lane,  // of the key
    input  logic [       KEY_ADDRESS_BITS-1:0]     write_key_address,  // of element 0 of the block
    input  logic [               ROW_BITS-1:0]     write_row,  // of the value
    input  logic [              WORD_BITS-1:0]     write_word,
    input  logic [            $clog2(LANES):0]     write_lanes,
    input  logic [                        4:0]     write_exponent,  // taken with word 0
    input  logic [                  LANES-1:0][7:0] write_data,
    // one element of a block of keys
    input  logic                                   key_enable,
    input  logic [       KEY_ADDRESS_BITS-1:0]     key_address,
    input  logic [          KEY_LANE_BITS-1:0]     key_skew,  // element % KEY_LANES
    output logic [              KEY_LANES-1:0][7:0] keys,
    input  logic                                   exponent_enable,
    input  logic [             BLOCK_BITS-1:0]     exponent_block,
    output logic [              KEY_LANES-1:0][4:0] key_exponents,
    // a row of values and its exponent
    input  logic                                   value_enable,
    input  logic [               ROW_BITS-1:0]     value_row,
    output logic [               HEAD_DIM-1:0][7:0] values,
    output logic [                        1:0]     value_exponent
);
  logic write_key_q, write_value_q, write_first_q;
  logic [BLOCK_BITS-1:0] write_block_q;
  logic [KEY_LANE_BITS-1:0] write_lane_q, write_bank_q, key_skew_q;
  logic [KEY_ADDRESS_BITS-1:0] write_address_q;
  logic [ROW_BITS-1:0] write_row_q;
  logic [WORD_BITS-1:0] write_word_q;
  logic [$clog2(LANES):0] write_lanes_q;
  logic [4:0] write_exponent_q;
  logic [LANES-1:0][7:0] write_data_q;
  logic [7:0] bank[KEY_LANES];

  always_ff @(posedge clk) begin
    write_key_q <= write_valid && !write_is_value;
    write_value_q <= write_valid && write_is_value;
    if (write_valid) begin
      write_first_q <= write_word == '0;
      write_block_q <= write_block;
      write_lane_q <= write_lane;
      write_bank_q <= write_lane + KEY_LANE_BITS'(32'(write_word) * LANES);  // of the first element
      write_address_q <= write_key_address + KEY_ADDRESS_BITS'(32'(write_word) * LANES);
      write_row_q <= write_row;
      write_word_q <= write_word;
      write_lanes_q <= write_lanes;
      write_exponent_q <= write_exponent;
      write_data_q <= write_data;
    end
    if (key_enable) key_skew_q <= key_skew;
    if (rst) {write_key_q, write_value_q} <= '0;
  end

  for (genvar b = 0; b < KEY_LANES; ++b) begin : g_key
    logic [KEY_LANE_BITS-1:0] element;  // of the write, from its first one on
    logic written;
    assign element = KEY_LANE_BITS'(b) - write_bank_q;
    assign written = write_key_q && 32'(element) < 32'(write_lanes_q);
    nmllm_ram #(
        .WIDTH(8),
        .DEPTH(BLOCKS * HEAD_DIM)
    ) u_bank (
        .clk,
        .write_enable(written),
        .write_address(write_address_q + KEY_ADDRESS_BITS'(element)),
        .write_data(written ? write_data_q[element[$clog2(LANES)-1:0]] : '0),
        .read_enable(key_enable),
        .read_address(key_address),
        .read_data(bank[b])
    );
    nmllm_ram #(
        .WIDTH(5),
        .DEPTH(BLOCKS)
    ) u_exponent (
        .clk,
        .write_enable(write_key_q && write_first_q && write_lane_q == KEY_LANE_BITS'(b)),
        .write_address(write_block_q),
        .write_data(write_exponent_q),
        .read_enable(exponent_enable),
        .read_address(exponent_block),
        .read_data(key_exponents[b])
    );
  end

  always_comb begin
    for (int unsigned a = 0; a < KEY_LANES; ++a) keys[a] = bank[KEY_LANE_BITS'(a)+key_skew_q];
  end

  for (genvar b = 0; b < VALUE_BANKS; ++b) begin : g_value
    nmllm_ram #(
        .WIDTH(8 * VALUE_LANES),
        .DEPTH(ROWS)
    ) u_bank (
        .clk,
        .write_enable(write_value_q && write_word_q == WORD_BITS'(b)),
        .write_address(write_row_q),
        .write_data(write_data_q[VALUE_LANES-1:0]),
        .read_enable(value_enable),
        .read_address(value_row),
        .read_data(values[b*VALUE_LANES+:VALUE_LANES])
    );
  end
  nmllm_ram #(
      .WIDTH(2),
      .DEPTH(ROWS)
  ) u_value_exponent (
      .clk,
      .write_enable(write_value_q && write_first_q),
      .write_address(write_row_q),
      .write_data(write_exponent_q[1:0]),
      .read_enable(value_enable),
      .read_address(value_row),
      .read_data(value_exponent)
  );

  if (KEY_LANES != 1 << KEY_LANE_BITS || KEY_LANES < LANES) begin : g_key_lanes
    $error("KEY_LANES must be a power of two and at least VECTOR_LANES");
  end
  if (VALUE_BANKS * VALUE_LANES != HEAD_DIM) begin : g_head_dim
    $error("HEAD_DIM must be a multiple of VECTOR_LANES, or smaller");
  end
endmodule

`default_nettype wire
