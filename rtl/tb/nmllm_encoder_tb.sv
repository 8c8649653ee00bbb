// nmllm_encoder with its memories; `load_memory` 0 vector, 1 stop prices.
`default_nettype none

module nmllm_encoder_tb #(
    parameter  int unsigned LANES = nmllm_pkg::VECTOR_LANES,
    parameter  int unsigned LATENCY = nmllm_pkg::VECTOR_LATENCY,
    parameter  int unsigned EVENTS = nmllm_pkg::EVENTS_PER_FLIT,
    parameter  int unsigned PHASES = nmllm_pkg::MAX_PHASES,
    parameter  bit          ASCENDING = nmllm_pkg::LEAST_FIRST != 0,
    localparam int unsigned MAX_INPUTS = 512,
    localparam int unsigned ADDRESS_BITS = 10
) (
    input  logic                                             clk,
    input  logic                                             rst,
    input  logic                                             load_valid,
    input  logic                                             load_memory,
    input  logic                  [        ADDRESS_BITS-1:0] load_address,
    input  logic       [LANES-1:0][                    31:0] load_data,
    input  logic                                             cfg_valid,
    input  logic                                             cfg_address,
    input  logic                  [                    63:0] cfg_data,
    input  logic                                             start,
    input  logic                  [                    14:0] size,
    input  logic                  [        ADDRESS_BITS-1:0] vector_base,
    input  logic                  [        ADDRESS_BITS-1:0] stop_base,
    input  logic                  [nmllm_pkg::ROUTE_BITS-1:0] route,
    input  logic                                             hold,
    input  logic                  [                    31:0] maximum,
    output logic                                             done,
    output logic                                             write_enable,
    output logic                  [        ADDRESS_BITS-1:0] write_address,
    output logic       [LANES-1:0][                    31:0] write_data,
    output logic                                             spike_valid,
    input  logic                                             spike_ready,
    output nmllm_pkg::flit_t                                 spike_flit,
    output logic                  [                    47:0] count_maximum_elements,
    output logic                  [                    47:0] count_encode_elements,
    output logic                  [                    47:0] count_words_read,
    output logic                  [                    47:0] count_words_written,
    output logic                  [                    47:0] count_bank_bits,
    output logic                  [                    47:0] count_spikes,
    output logic                  [                    47:0] count_flits
);
  logic read_enable, stop_enable, vector_load;
  logic [ADDRESS_BITS-1:0] read_address, stop_address;
  logic [LANES-1:0][31:0] read_data, stop_data;

  assign vector_load = load_valid && !load_memory;

  nmllm_encoder #(
      .LANES(LANES),
      .LATENCY(LATENCY),
      .EVENTS(EVENTS),
      .MAX_INPUTS(MAX_INPUTS),
      .ADDRESS_BITS(ADDRESS_BITS),
      .ASCENDING(ASCENDING),
      .PHASES(PHASES)
  ) u_encoder (
      .*
  );

  nmllm_ram #(
      .WIDTH(32 * LANES),
      .DEPTH(1 << ADDRESS_BITS)
  ) u_vector (
      .clk,
      .write_enable(vector_load || write_enable),
      .write_address(vector_load ? load_address : write_address),
      .write_data(vector_load ? load_data : write_data),
      .read_enable,
      .read_address,
      .read_data
  );

  nmllm_ram #(
      .WIDTH(32 * LANES),
      .DEPTH(1 << ADDRESS_BITS)
  ) u_stop (
      .clk,
      .write_enable(load_valid && load_memory),
      .write_address(load_address),
      .write_data(load_data),
      .read_enable(stop_enable),
      .read_address(stop_address),
      .read_data(stop_data)
  );
endmodule

`default_nettype wire
